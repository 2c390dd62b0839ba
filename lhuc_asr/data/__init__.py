"""What lies on disk: manifests, Kaldi directories, lhotse manifests, sound files, checks, splits and corpora."""

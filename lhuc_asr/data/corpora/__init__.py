"""The corpora that can be prepared, one module each: found on disk, checked, written as Kaldi directories."""

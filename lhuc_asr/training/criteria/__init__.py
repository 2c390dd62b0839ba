"""What whole utterances are judged by: cross-entropy, CTC, LF-MMI and sMBR."""

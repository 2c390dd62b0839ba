"""What is learnt from: frames and whole utterances with what they are taken for, and what judges outputs by it."""

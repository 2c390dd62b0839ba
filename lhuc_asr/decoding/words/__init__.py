"""What was recognised: words, when each was said, and the words of several systems put together."""

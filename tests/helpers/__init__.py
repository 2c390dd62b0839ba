"""What several test files share: toy speech and networks, tiny corpora and models, programs of many processes."""

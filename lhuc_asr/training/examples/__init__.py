"""What there is to learn from, frames or whole utterances, as minibatches in an order that seed and epoch decide."""

"""What changes from epoch to epoch: the learning rate, dropout that falls, and the mean of the best weights."""

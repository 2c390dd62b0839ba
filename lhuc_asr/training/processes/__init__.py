"""Several processes that train one network together, and the share of a minibatch that each of them takes."""

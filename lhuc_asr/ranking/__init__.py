"""The same gates in a recommender: click logs, ranking models with embeddings and gates, training and measures."""

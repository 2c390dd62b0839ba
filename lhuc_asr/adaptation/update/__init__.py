"""The update of speakers side by side: descent on their objective, the speech that ends it, and the guard after it."""

"""Other people's models: where their hidden units are, how they are adapted, and (IA)^3 adapters in and out."""

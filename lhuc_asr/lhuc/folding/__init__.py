"""How a fold is planned: a net is watched at work, and scaled units are followed to weights that can take them in."""

"""What an experiment declares: networks, weights, data, recipe, and how they are carried out. Knows no framework."""

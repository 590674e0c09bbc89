"""How it is told: figures, charts, pages and their words in every language."""

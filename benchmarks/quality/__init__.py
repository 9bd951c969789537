"""How good searches are: recall, significance, relevance, explanations, and reports of them."""

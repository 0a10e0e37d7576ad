"""Teams of agents run on items: their prompts, the forward pass, losses and written critiques."""

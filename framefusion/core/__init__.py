"""What a method is made of and decides: tokens, plans, stages, options; nothing of transformers."""

"""From a checkpoint, a clip and a question to an answer with its measurements; what the command line is made of."""

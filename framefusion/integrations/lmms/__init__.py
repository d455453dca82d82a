"""Models of lmms-eval that read fewer visual tokens, and the comparison of such a run with a dense one."""

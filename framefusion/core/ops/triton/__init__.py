"""The same names as in `ops`, as kernels for a GPU. `ops` calls them there; nobody else has to."""

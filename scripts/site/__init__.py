"""What turns the pages of docs/ and the docstrings of the package into the site that `mkdocs.yml` describes."""

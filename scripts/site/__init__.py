"""What turns the pages of docs/ and the docstrings of the package into the site; `mkdocs.yml` names the entry points."""

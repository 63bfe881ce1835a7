"""The site: pages of the repository, and what is generated from it."""

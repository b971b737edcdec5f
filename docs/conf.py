"""Sphinx configuration."""

from llmcache import __version__

project = "llmcache"
copyright = "llmcache contributors"
author = "llmcache contributors"
release = version = __version__

extensions = ["sphinx.ext.autodoc", "sphinx.ext.napoleon"]
exclude_patterns = ["_build"]
default_role = "py:obj"

html_theme = "alabaster"
html_theme_options = {"description": "A response cache for functions that call language models."}
html_sidebars = {"**": ["about.html", "localtoc.html", "navigation.html", "searchbox.html"]}

autodoc_member_order = "bysource"
autodoc_preserve_defaults = True
autodoc_typehints = "none"

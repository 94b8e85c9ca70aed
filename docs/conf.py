"""The documentation site: ``make docs`` builds it, and any warning fails."""

from __future__ import annotations

from importlib import metadata

project = "TokenGate Executor"
author = "TokenGate Executor developers"
release = metadata.version("tokengate-executor")
copyright = author  # noqa: A001  Sphinx's own name

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon", "sphinx.ext.viewcode"]
html_theme = "furo"
html_title = f"{project} {release}"
html_static_path: list[str] = []
exclude_patterns = ["_build", "images/*.py"]

myst_heading_anchors = 3
myst_fence_as_directive: list[str] = []
# The source of the state diagram is shown; drawing it would need a script from elsewhere.
suppress_warnings = ["misc.highlighting_failure"]

autodoc_member_order = "bysource"
autodoc_typehints = "signature"
autodoc_typehints_format = "short"
autodoc_class_signature = "mixed"
autodoc_default_options = {"members": True, "show-inheritance": True}
napoleon_google_docstring = True
napoleon_numpy_docstring = False
napoleon_use_ivar = True

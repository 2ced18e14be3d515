"""jaxrec: adversarially robust recommender systems in JAX."""

__version__ = "0.1.0"

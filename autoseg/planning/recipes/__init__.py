"""Recipes: published systems as configurations, one JSON file each, applied to a plan."""

from autoseg.planning.recipes.applying import add_recipes
from autoseg.planning.recipes.registry import Recipe, read_recipe, recipe_names

__all__ = ["Recipe", "add_recipes", "read_recipe", "recipe_names"]

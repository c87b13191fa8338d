"""Recipes: published systems as configurations, one JSON file each, applied to a plan."""

from autoseg.planning.recipes.applying import STAND_IN, add_recipes, describe_stand_in
from autoseg.planning.recipes.registry import Recipe, read_recipe, recipe_names

__all__ = ["STAND_IN", "Recipe", "add_recipes", "describe_stand_in", "read_recipe", "recipe_names"]

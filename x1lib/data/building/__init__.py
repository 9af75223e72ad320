"""The pipeline over streams: a recipe, one pass, blocks that a trainer may follow."""

from x1lib.data.building.follow import FollowedShards, build_command, feed, has_writer
from x1lib.data.building.onepass import build, plan_folder
from x1lib.data.building.recipe import FILTERS, PRESETS, Recipe, recipe

__all__ = [
    "FILTERS",
    "PRESETS",
    "FollowedShards",
    "Recipe",
    "build",
    "build_command",
    "feed",
    "has_writer",
    "plan_folder",
    "recipe",
]

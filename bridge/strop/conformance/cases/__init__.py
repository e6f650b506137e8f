"""Recipes of the golden cases, each for one thing that a simulator can get wrong.

Only the generator calls these; the suite reads the files that it wrote. Unless a case says otherwise, all
values are multiples of 1/4 and small, so that float32 sums are exact in every order and there is one right
answer for each neuron.
"""

from strop.conformance.cases import decision_cases, input_cases, operator_cases
from strop.conformance.cases.recipe import RECIPES, Recipe, says

__all__ = ["RECIPES", "Recipe", "decision_cases", "input_cases", "operator_cases", "says"]

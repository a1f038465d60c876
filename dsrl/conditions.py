"""Conditions that begin a phase: `Condition`, the base of a plugin's own, and those that are built in."""

from dsrl.phases.conditions import Condition, Drop, Plateau, Threshold

__all__ = ["Condition", "Drop", "Plateau", "Threshold"]

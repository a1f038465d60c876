"""Phases, the conditions that begin them, and the scheduler that hands over: Policy Reincarnation."""

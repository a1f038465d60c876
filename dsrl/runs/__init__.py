"""A run: its folder, checkpoints, resume and handoff, what a person sees of it, and how it ends well."""

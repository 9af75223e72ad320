"""The pipeline past one machine: tasks for an engine that exists, and what a plan costs."""

"""The main job: a budget becomes a plan, the plan is run, and the result is proven."""

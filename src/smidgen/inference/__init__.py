"""Running models: engines that answer, and the scoring of prompts."""

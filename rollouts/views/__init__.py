"""The pages of an environment: how it stands, what changes, rollouts and revisions, exports, settings."""

"""A small real world to try the product on: a partner that demands client certificates, and an app that obeys its
settings.

Nothing here imports the rest of the project, and nothing here is for production: every key is thrown away with the
folder.
"""

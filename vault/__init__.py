"""Cryptography at rest: what is sealed here is opened only through safe.py, for a recorded reason."""

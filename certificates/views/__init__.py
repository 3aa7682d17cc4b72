"""The pages of the Network tab: the list, uploads, a certificate, pins."""

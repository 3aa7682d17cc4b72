"""The edge: settings, addresses, sign-in, and the pages that belong to no single part."""

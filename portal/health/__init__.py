"""Whether the portal can do its work: for machines that ask every few seconds, and in words for its owners."""

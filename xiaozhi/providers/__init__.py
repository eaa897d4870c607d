"""Speech and language providers, one folder a vendor, over a shared kit."""

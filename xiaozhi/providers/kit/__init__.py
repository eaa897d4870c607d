"""The provider kit: what adapters of any vendor share."""

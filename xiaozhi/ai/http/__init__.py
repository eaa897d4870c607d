"""The AI service's HTTP side: OTA, vision, management, health."""

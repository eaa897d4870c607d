"""HTTP of the AI service: OTA, vision, management, health."""

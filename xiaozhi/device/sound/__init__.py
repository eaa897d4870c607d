"""Sound of a software device: microphone, loudspeaker and the voice that speaks the inputs."""

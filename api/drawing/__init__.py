"""Pictures that commands and the service draw: contact sheets and heat maps."""

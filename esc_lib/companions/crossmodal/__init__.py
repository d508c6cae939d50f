"""Sound to image and image to sound: the cross-modal networks, their data and their judges."""

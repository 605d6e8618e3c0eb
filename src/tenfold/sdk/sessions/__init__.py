"""`tf.session`: what a service remembers of one visitor, in a store that all web servers share."""

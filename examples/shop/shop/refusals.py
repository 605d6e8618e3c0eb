"""What the shop may say no to, each with its HTTP status. `web` turns them into a page or a JSON answer."""


class Refusal(Exception):  # noqa: N818 - it is an answer, not an error of the program
    """A request that cannot be fulfilled; the message is shown to the person who made it."""

    status = 400
    message = "That did not work."

    def __init__(self, message: str = "") -> None:
        super().__init__(message or self.message)


class NotLoggedIn(Refusal):
    status = 401
    message = "Please log in first."


class WrongPassword(Refusal):
    status = 401
    message = "This email address and password do not match."


class NotFound(Refusal):
    status = 404
    message = "We looked everywhere. It is not here."


class EmailTaken(Refusal):
    status = 409
    message = "There is an account with this email address already. Log in instead?"


class EmptyCart(Refusal):
    status = 409
    message = "Your cart is empty, so there is nothing to order yet."


class FullCart(Refusal):
    status = 409
    message = "Your cart is full. Please order what is in it first."


class OutOfStock(Refusal):
    status = 409

    def __init__(self, name: str, left: int) -> None:
        super().__init__(f"{name}: only {left} left. Please take a few out of your cart.")

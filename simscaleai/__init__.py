"""SimScaleAI: simulate a robot arm, generate demonstrations, train policies, evaluate them in closed loop."""

__version__ = "0.1.0"

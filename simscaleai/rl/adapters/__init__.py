"""Adapters from our vector environments to the interfaces of other packages.

    from simscaleai.rl.adapters.stable_baselines3 import SB3VecEnv
    from simscaleai.rl.adapters.rsl_rl import RslRlVecEnv

Packages that accept Gymnasium environments need no adapter. Neither package is a dependency; install the
one that you use.
"""

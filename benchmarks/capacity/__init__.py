"""What a library of any size takes: time, machines, bytes and money, from measured rates."""

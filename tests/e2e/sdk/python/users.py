"""Users of an index: what their tokens open, what they do not, and revocation."""
import cyborgdb

from setting import SECRETS, SLOT, client, new_key, refused, refused_by_sdk

ROW = [{"id": "a", "vector": [1.0, 2.0], "contents": "c", "metadata": {"k": 1}}]
OTHER = [{"id": "b", "vector": [2.0, 1.0]}]
DENIED = "permission denied"


def token_of(user):
    assert set(user) == {"user_id", "api_key"}, set(user)
    assert len(user["user_id"]) == 32 and int(user["user_id"], 16) >= 0
    assert user["api_key"].startswith("cdbk_1_") and len(user["api_key"]) == 82
    SECRETS.add(user["api_key"])
    return user["api_key"]


def handle(token, name, key=None):
    """What a user's own client works with: no index key of theirs."""
    theirs = client(token)
    return cyborgdb.EncryptedIndex(name, key, theirs.api, theirs.api_client)


def reads(index):
    assert index.get(["a"], include=["contents"]) == [{"id": "a", "contents": "c"}]
    assert index.query([1.0, 2.0], top_k=1)[0]["id"] == "a"
    assert "a" in index.list_ids()
    if hasattr(index, "query_metadata"):
        assert index.query_metadata({"k": 1}) == [{"id": "a"}]


def may_not_read(index, status, words):
    refused(status, words, index.get, ["a"])
    refused(status, words, index.query, [1.0, 2.0])
    refused(status, words, index.list_ids)
    if hasattr(index, "query_metadata"):
        refused(status, words, index.query_metadata)


def writes(index):
    index.upsert(OTHER)
    index.delete(["b"])


def may_not_write(index, status, words):
    refused(status, words, index.upsert, OTHER)
    refused(status, words, index.delete, ["a"])


def may_not_rule(token, index):
    theirs = client(token)
    admin = "requires an admin"
    refused(403, admin, theirs.list_indexes)
    refused(403, admin, theirs.create_index, "mine", new_key(), dimension=2)
    refused(403, admin, index.train)
    refused(403, admin, index.delete_index)
    refused(403, admin, index.is_training)
    root = "requires the root API key"
    refused(403, root, index.create_user, ["read"])
    refused(403, root, index.list_users)
    refused(403, root, index.delete_user, "00" * 16)


def users_of(name, key=None, kms_name=None):
    root = client()
    index = root.create_index(name, index_key=key, kms_name=kms_name, dimension=2)
    index.upsert(ROW)
    assert index.list_users() == []
    made = {}
    for permissions in (["read"], ["write"], ["read", "write"], ["write", "read", "read"]):
        user = index.create_user(permissions=permissions)
        made[user["user_id"]] = (token_of(user), sorted(set(permissions)))
    listed = {user["user_id"]: sorted(user["permissions"]) for user in index.list_users()}
    assert listed == {user_id: permissions for user_id, (_, permissions) in made.items()}, listed

    for token, permissions in made.values():
        loaded = client(token).load_index(name)
        assert (loaded.dimension, loaded.metric) == (2, "euclidean"), "describe is open to every user"
        reads(loaded) if "read" in permissions else may_not_read(loaded, 403, DENIED)
        writes(loaded) if "write" in permissions else may_not_write(loaded, 403, DENIED)
        may_not_rule(token, loaded)
        # An index key that a user shows beside the token is of no interest.
        shown = handle(token, name, new_key())
        reads(shown) if "read" in permissions else may_not_read(shown, 403, DENIED)

    # A token belongs to one index.
    another = root.create_index("another", new_key(), dimension=2)
    another.upsert(ROW)
    for token, _ in made.values():
        stranger = handle(token, "another")
        may_not_read(stranger, 403, DENIED)
        may_not_write(stranger, 403, DENIED)
        refused(403, DENIED, handle(token, "nowhere").get, ["a"])  # as if it were there
    another.delete_index()

    # Revoked: the next request fails; the others' tokens still open.
    for user_id, (token, _) in made.items():
        reads_before = handle(token, name)
        index.delete_user(user_id=user_id)
        may_not_read(reads_before, 403, DENIED)
        may_not_write(reads_before, 403, DENIED)
        index.delete_user(user_id)  # once more is no error
    assert index.list_users() == []
    reads(index)

    # The index dies with its users; a new one of the same name knows none of them.
    last = token_of(index.create_user(["read", "write"]))
    index.delete_index()
    refused(403, DENIED, handle(last, name).get, ["a"])
    again = root.create_index(name, index_key=key, kms_name=kms_name, dimension=2)
    again.upsert(ROW)
    assert again.list_users() == []
    may_not_read(handle(last, name), 403, DENIED)
    again.delete_index()


def users_of_a_kms_backed_index():
    users_of("with users", kms_name=SLOT)


def users_of_an_index_with_a_key_of_the_client():
    users_of("with users", key=new_key())


def users_that_are_refused():
    key = new_key()
    index = client().create_index("asked wrongly", key, dimension=2)
    refused(400, "permissions must include at least one", index.create_user, [])
    refused(400, "invalid permissions", index.create_user, ["admin"])
    refused(400, "invalid permissions", index.create_user, ["read", "all"])
    refused(400, "user_id must be hex", index.delete_user, "zz")
    refused(400, "16 bytes", index.delete_user, "00" * 15)
    index.delete_user("00" * 16)
    assert index.list_users() == []
    refused_by_sdk(index.create_user, None)
    index.delete_index()


def calls():
    return users_of_a_kms_backed_index, users_of_an_index_with_a_key_of_the_client, users_that_are_refused

"""The cluster's own certificate authority, and the certificates that it gives (X.509, ECDSA on P-256)."""

from __future__ import annotations

import datetime
import ipaddress
import secrets
from collections.abc import Sequence

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from xin.errors import BadRequest
from xin.protocol.trust import Passport, issuer_name, tls_name

AUTHORITY_DAYS = 20 * 365
NODE_DAYS = 5 * 365
SERVER_DAYS = 365  # browsers refuse those that are good for longer than 398
SKEW = datetime.timedelta(days=1)  # hosts' clocks may differ


def found() -> Passport:
    """A new authority, of a cluster without members."""
    return founded(issuer_name(secrets.token_hex(8)))


def founded(common_name: str) -> Passport:
    """A new authority of that name."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name)])
    builder = _builder(name, name, key.public_key(), AUTHORITY_DAYS)
    builder = builder.add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
    builder = builder.add_extension(_usage(signs_certificates=True), critical=True)
    builder = builder.add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
    return Passport(certificate=_pem(builder.sign(key, hashes.SHA256())), key=_key_pem(key))


def issue(passport: Passport, node_id: str) -> str:
    """A key and a certificate for one node, as one PEM: good for both ends of a connection."""
    usages = [ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH]
    return _issued(passport, node_id, [x509.DNSName(tls_name(node_id))], usages, NODE_DAYS)


def issue_for_hosts(passport: Passport, common_name: str, hosts: Sequence[str]) -> str:
    """A key and a certificate by which a server is known under names and IP addresses, as one PEM."""
    names = [_general_name(host) for host in hosts]
    return _issued(passport, common_name, names, [ExtendedKeyUsageOID.SERVER_AUTH], SERVER_DAYS)


def hosts_of(pem: bytes) -> tuple[set[str], datetime.datetime]:
    """The names and addresses that the first certificate is for, and when it ends. ValueError for what is none."""
    certificate = x509.load_pem_x509_certificate(pem)
    try:
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return set(), certificate.not_valid_after_utc
    return {str(name.value) for name in names}, certificate.not_valid_after_utc


def fingerprint(pem: bytes) -> str:
    """SHA-256 of the first certificate, in hexadecimal."""
    return x509.load_pem_x509_certificate(pem).fingerprint(hashes.SHA256()).hex()


def _general_name(host: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(host))
    except ValueError:
        return x509.DNSName(host)


def _issued(
    passport: Passport,
    common_name: str,
    names: Sequence[x509.GeneralName],
    usages: Sequence[x509.ObjectIdentifier],
    days: int,
) -> str:
    authority, authority_key = _opened(passport)
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name)])
    builder = _builder(name, authority.subject, key.public_key(), days)
    builder = builder.add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
    builder = builder.add_extension(_usage(signs_certificates=False), critical=True)
    builder = builder.add_extension(x509.ExtendedKeyUsage(usages), critical=False)
    builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=False)
    builder = builder.add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
    issuer = x509.AuthorityKeyIdentifier.from_issuer_public_key(authority_key.public_key())
    builder = builder.add_extension(issuer, critical=False)
    return _key_pem(key) + _pem(builder.sign(authority_key, hashes.SHA256()))


def check(passport: Passport) -> None:
    """BadRequest unless it holds an authority and its key."""
    _opened(passport)


def cluster_id(passport: Passport) -> str:
    """A cluster is its authority: after a rotation it has another id."""
    certificate, _ = _opened(passport)
    names = certificate.subject.get_attributes_for_oid(NameOID.COMMON_NAME)
    return str(names[0].value).removeprefix(issuer_name("")) if names else ""


def _opened(passport: Passport) -> tuple[x509.Certificate, ec.EllipticCurvePrivateKey]:
    try:
        certificate = x509.load_pem_x509_certificate(passport.certificate.encode())
        key = serialization.load_pem_private_key(passport.key.encode(), None)
    except (ValueError, TypeError) as exc:
        raise BadRequest("what was sent is no cluster's authority", "compare versions: xin nodes") from exc
    if not isinstance(key, ec.EllipticCurvePrivateKey) or key.public_key() != certificate.public_key():
        raise BadRequest("the authority's key is not that of its certificate")
    return certificate, key


def _builder(
    subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePublicKey, days: int
) -> x509.CertificateBuilder:
    now = datetime.datetime.now(datetime.UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - SKEW)
        .not_valid_after(now + datetime.timedelta(days=days))
    )


def _usage(*, signs_certificates: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not signs_certificates,
        key_cert_sign=signs_certificates,
        crl_sign=signs_certificates,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )


def _pem(certificate: x509.Certificate) -> str:
    return certificate.public_bytes(serialization.Encoding.PEM).decode()


def _key_pem(key: ec.EllipticCurvePrivateKey) -> str:
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    ).decode()
